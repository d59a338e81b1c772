"""The command line `bucketdex`: what a terminal needs on top of the client, and nothing that the client can do."""

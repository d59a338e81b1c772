"""The emulator and the local deployment: the real stack, deployed by the real CDK, on this machine.

deployment = deploy(tables="tables")     # starts the emulator when none runs
with deployment.environment():           # boto3 and Database() now mean the emulator
    ...
stop()
"""

from bucketdex.local.deployment import deploy
from bucketdex.local.emulator import start, status, stop
from bucketdex.local.state import Deployment

__all__ = ["Deployment", "deploy", "start", "status", "stop"]

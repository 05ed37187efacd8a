"""The configuration: YAML files, and the groups that are generated from the registries.

All that knows Hydra is here: `store` makes the groups, `command` runs a command.
"""

import os

# Before torch is imported: threads that wait for one another by spinning make small networks ten times slower on a
# machine whose cores are busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

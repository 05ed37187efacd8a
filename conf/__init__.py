"""The configuration: YAML files, and the groups that are generated from the registries.

All that knows Hydra is here: `store` makes the groups, `command` runs a command.
"""

"""Training: Lightning modules, optimizers and schedules by name, callbacks, and the run that ties them together."""

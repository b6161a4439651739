"""Quality gates: how good the models are on known effects and real data, beside others in the same run."""

"""What we believe, how we choose and how we judge: pure decisions, estimators and their artefacts."""

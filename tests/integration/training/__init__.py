"""The training pipeline with its real libraries."""

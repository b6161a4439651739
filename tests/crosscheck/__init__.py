"""Our measures and estimators beside those of respected libraries; they need the dependency group ``crosscheck``."""

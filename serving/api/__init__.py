"""The HTTP routes: translate, call, map errors."""

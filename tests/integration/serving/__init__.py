"""The doors with everything behind them."""

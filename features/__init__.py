"""What we know about a customer at a moment: events, journeys, the feature kernel and its stores."""

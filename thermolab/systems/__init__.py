"""What moves: a loss over replicas of weights [R, P], the update rules, the random numbers, and the compiled steps."""

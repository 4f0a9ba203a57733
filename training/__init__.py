"""Train, calibrate and evaluate the networks that workers serve."""

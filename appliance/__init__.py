"""The box: values, state and kernel ports below, control and front panel above."""

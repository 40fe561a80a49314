"""Foreign names of the networks' variables to Slim's: one pure function a naming."""

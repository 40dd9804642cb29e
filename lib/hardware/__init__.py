"""Networks on non-ideal hardware: perturbations of the forward operator, and training through them."""

"""The default learner: closed-form heads on a meta-learned encoder, exact with every event; the equations: `heads`."""

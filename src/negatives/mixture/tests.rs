//! Mixtures against their definitions.

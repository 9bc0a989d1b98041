//! Allocations of a look-up.

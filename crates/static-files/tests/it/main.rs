//! Serves real directories to requests made by hand.

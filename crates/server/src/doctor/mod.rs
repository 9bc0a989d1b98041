//! `hearth doctor`: what keeps a site from being reached, why, and what to do.
//!
//! [`gather`] finds [`facts`], [`diagnose`](diagnose::diagnose) what follows from it.

mod authority;
pub mod codes;
pub mod diagnose;
pub mod facts;
pub mod gather;

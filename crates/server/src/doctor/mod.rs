//! `hearth doctor`: what keeps a site from being reached, why, and what to do.
//!
//! [`facts`] is what was found out, [`diagnose`](diagnose::diagnose) what follows from it.

pub mod codes;
pub mod diagnose;
pub mod facts;

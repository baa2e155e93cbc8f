//! ph

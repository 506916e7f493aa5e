//! The one loop that joins watch, core and cure.

//! Stand-ins used by the lab; none of this is shipped.

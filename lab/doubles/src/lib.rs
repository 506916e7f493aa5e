//! Doubles of OpenWrt's ubusd and netifd for tests and the lab; nothing of this is shipped.

pub mod acl;
pub mod broker;
pub mod netifd;
pub mod serve;

//! Programs that others wrote: servers, clients, and how they are run.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod clients;
pub mod program;
pub mod recorder;
pub mod servers;

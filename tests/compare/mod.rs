//! Conversations, the stage they are played on, and what is compared.

pub mod diff;
pub mod normal;
pub mod play;
pub mod script;
pub mod stage;

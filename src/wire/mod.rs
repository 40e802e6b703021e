//! The grammar of IRC: bytes to lines and back, tags, names, ISUPPORT and capabilities. Pure: no I/O, no clock, and a
//! parsed line is a view that allocates nothing. What lines *mean* is `state`'s.

pub mod caps;
pub mod framing;
pub mod isupport;
pub mod latin1;
pub mod line;
pub mod modes;
pub mod name;
pub mod tags;
pub mod time;
pub mod typed;

pub use caps::{Cap, CapSet};
pub use framing::{Framed, Framer};
pub use isupport::Isupport;
pub use line::{Line, LineBuilder, LineError};
pub use modes::{MemberModes, ModeKind};
pub use name::{CaseMapping, Name, SERVICE};
pub use tags::Tags;
pub use time::Timestamp;

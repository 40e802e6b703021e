//! What all networks dial with: names, routes, turns, memory of what works, trusted roots, the key of source addresses.
//! Clones share it. One cycle over a network's servers is `dial`'s.

use std::sync::Arc;

use super::dial::Cycle;
use super::health::Health;
use super::ident::Idents;
use super::nat64::Translator;
use super::pace::Pace;
use super::resolve::Resolve;
use super::settings::Settings;
use super::source::{HostRoutes, Routes, SourceKey};
use super::tls::Roots;
use crate::config::Network;

/// Begins cycles. Clones share everything.
#[derive(Clone)]
pub struct Dialer {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) routes: Arc<dyn Routes>,
    pub(super) pace: Pace,
    pub(super) health: Health,
    pub(super) translator: Translator,
    pub(super) roots: Roots,
    pub(super) key: Option<SourceKey>,
    pub(super) idents: Option<Idents>,
}

/// On whose behalf is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The user, whose source address it is.
    pub user: String,
    /// Whether internal addresses may be dialled: the configuration or an administrator has made the network. Others
    /// may with `dial.allow_internal` alone, and are not told why something failed.
    pub is_trusted: bool,
}

impl By {
    /// A user whose network is declared in the configuration.
    pub fn trusted(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            is_trusted: true,
        }
    }
}

impl Dialer {
    /// A dialler that asks this resolver.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            resolver,
            routes: Arc::new(HostRoutes),
            pace: Pace::new(),
            health: Health::default(),
            translator: Translator::default(),
            roots: Roots::default(),
            key: None,
            idents: None,
        }
    }

    /// The same with a key for addresses out of a prefix.
    #[must_use]
    pub fn with_key(self, key: SourceKey) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// The same that says whose its connections are.
    #[must_use]
    pub fn with_idents(self, idents: Idents) -> Self {
        Self {
            idents: Some(idents),
            ..self
        }
    }

    /// The same with other routes, for tests.
    #[must_use]
    pub fn with_routes(self, routes: Arc<dyn Routes>) -> Self {
        Self { routes, ..self }
    }

    /// The same with another resolver, and without what others have learned or are waiting for.
    #[must_use]
    pub fn asking(&self, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            resolver,
            pace: Pace::new(),
            health: Health::default(),
            translator: Translator::default(),
            ..self.clone()
        }
    }

    /// One cycle over all servers of a network.
    pub fn cycle(&self, network: &Network, by: &By) -> Cycle {
        self.cycle_with(network, by, Settings::from(&network.dial))
    }

    /// The same with the race's own numbers.
    pub fn cycle_with(&self, network: &Network, by: &By, settings: Settings) -> Cycle {
        Cycle::new(self.clone(), network, by, settings)
    }
}

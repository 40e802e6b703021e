//! The vocabulary: one row for each verb, with its parameters, options and examples. The parser, `help` and the manual
//! carom-commands(7) are made from it, so that nothing is said twice.

use super::Role;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Verb {
    Help,
    Status,
    NetworkCreate,
    NetworkUpdate,
    NetworkDelete,
    NetworkStatus,
    NetworkConnect,
    NetworkDisconnect,
    NetworkJump,
    NetworkQuote,
    NetworkExplain,
    ChannelCreate,
    ChannelUpdate,
    ChannelDelete,
    ChannelDetach,
    ChannelAttach,
    ChannelStatus,
    ClientStatus,
    ClientDisconnect,
    HistorySearch,
    HistoryReplay,
    HistoryReset,
    HistorySize,
    HistoryExport,
    Password,
    CertificateAdd,
    CertificateDelete,
    CertificateStatus,
    CertfpGenerate,
    CertfpFingerprint,
    SaslSetPlain,
    SaslSetExternal,
    SaslReset,
    SaslStatus,
    Trust,
    UserCreate,
    UserUpdate,
    UserDelete,
    UserRestore,
    UserStatus,
    UserRun,
    ServerStatus,
    ServerNotice,
    ServerReload,
    ServerDebug,
    ServerDump,
    Bip,
}

/// What a verb is about, and so what has to be known before it can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Nobody in particular.
    Nobody,
    /// Whoever says it; at the control socket everybody.
    Everybody,
    /// One user.
    User,
    /// One network of one user.
    Network,
    /// One network that is connected.
    Link,
}

/// What stands behind the words of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// What help calls it.
    pub name: &'static str,
    /// Whether it has to be there, and how much it takes.
    pub need: Need,
    /// Never to be shown again.
    pub secret: bool,
}

/// Whether a parameter has to be there, and how much it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One word.
    One,
    /// One word, or none.
    Maybe,
    /// Everything to the end of the line, as it stands.
    Rest,
    /// The same, or nothing.
    MaybeRest,
}

/// `-name value`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Without the dash.
    pub name: &'static str,
    /// What help calls the value.
    pub value: &'static str,
    /// How the value is taken.
    pub kind: Kind,
    /// The key of the configuration that it stands for; empty: the verb takes it itself.
    pub key: &'static str,
    /// The verb cannot do without.
    pub required: bool,
    /// Never to be shown again.
    pub secret: bool,
    /// Who may use it.
    pub role: Role,
    /// What it is for.
    pub summary: &'static str,
}

/// How the value of an option is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has none.
    Flag,
    /// As it is.
    Text,
    /// As it is; the option may be repeated.
    List,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
}

/// One line of the vocabulary.
#[derive(Debug)]
pub struct Row {
    /// What is done.
    pub verb: Verb,
    /// The words that say so.
    pub words: &'static [&'static str],
    /// What stands behind them.
    pub parameters: &'static [Parameter],
    /// What may stand among that.
    pub options: &'static [Opt],
    /// Who may.
    pub role: Role,
    /// What it is about.
    pub subject: Subject,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What else there is to know; may be empty.
    pub about: &'static str,
    /// How it may be said.
    pub examples: &'static [&'static str],
}

impl Row {
    /// How it is said in short: what has to be there, and whether there are options.
    pub fn usage(&self) -> String {
        let mut usage = self.words.join(" ");
        let (required, others): (Vec<&Opt>, Vec<&Opt>) =
            self.options.iter().partition(|option| option.required);
        for option in required {
            usage += &format!(" {}", option.usage());
        }
        if !others.is_empty() {
            usage += " [OPTIONS]";
        }
        for parameter in self.parameters {
            let name = parameter.name;
            usage += &match parameter.need {
                Need::One | Need::Rest => format!(" {name}"),
                Need::Maybe | Need::MaybeRest => format!(" [{name}]"),
            };
        }
        usage
    }

    /// Whether anything said with it is not to be shown again.
    pub(super) fn has_secrets(&self) -> bool {
        self.parameters.iter().any(|p| p.secret) || self.options.iter().any(|o| o.secret)
    }

    /// The option with this name.
    pub(super) fn option(&self, name: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| option.name == name)
    }
}

impl Opt {
    /// `-name VALUE`
    pub fn usage(&self) -> String {
        match self.kind {
            Kind::Flag => format!("-{}", self.name),
            _ => format!("-{} {}", self.name, self.value),
        }
    }
}

impl Verb {
    /// Its row in the table.
    pub fn row(self) -> &'static Row {
        super::rows::ROWS
            .iter()
            .find(|row| row.verb == self)
            .expect("each verb has a row, as a test holds")
    }
}

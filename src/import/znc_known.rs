//! Keys and modules of ZNC that have no counterpart here, each with the reason that the report gives. What they are
//! taken out of is `znc`'s.

/// What is said of keys that are left behind.
pub(super) const LEFT: &[(&str, &str)] = &[
    ("Version", "says which ZNC wrote the file"),
    (
        "ConfigWriteDelay",
        "what is changed while running is in the database",
    ),
    ("AllowWeb", "there is no web interface"),
    ("URIPrefix", "there is no web interface"),
    ("Skin", "there is no web interface"),
    ("ProtectWebSessions", "there is no web interface"),
    ("StatusPrefix", "the service is *carom"),
    (
        "MaxBufferSize",
        "history has no size in lines; see history.retention and history.max_size",
    ),
    (
        "Buffer",
        "history has no size in lines; see history.lines, history.retention and history.max_size",
    ),
    (
        "ChanBufferSize",
        "history has no size in lines; see history.lines, history.retention and history.max_size",
    ),
    (
        "QueryBufferSize",
        "history has no size in lines; see history.lines, history.retention and history.max_size",
    ),
    (
        "AutoClearQueryBuffer",
        "is as in channels: see history.replay",
    ),
    ("MaxQueryBuffers", "private talks have no limit"),
    ("ConnectDelay", "see dial.pace"),
    ("ServerThrottle", "see dial.pace"),
    ("HideVersion", "the version is not told to strangers"),
    ("AuthOnlyViaModule", "passwords are always carom's own"),
    (
        "PidFile",
        "carom runs in the foreground; its data folder has a lock",
    ),
    ("SSLDHParamFile", "no Diffie-Hellman parameters are needed"),
    (
        "SSLCiphers",
        "TLS 1.2 and 1.3 choose among sound ciphers only",
    ),
    ("SSLProtocols", "TLS 1.2 and 1.3"),
    (
        "Motd",
        "put it into a text file, and its name into server.motd",
    ),
    (
        "TrustedProxy",
        "put the proxy into server.proxies, and let it send a PROXY header",
    ),
    (
        "CTCPReply",
        "carom answers no CTCP requests; they go to the client that was active last",
    ),
    ("QuitMsg", "carom says why it goes"),
    (
        "Timezone",
        "times are shown in the time zone of the machine",
    ),
    (
        "TimezoneOffset",
        "times are shown in the time zone of the machine",
    ),
    ("AppendTimestamp", "the time stands before the text"),
    ("MultiClients", "always so"),
    ("DenyLoadMod", "there are no modules"),
    (
        "DenySetBindHost",
        "users who are not administrators cannot choose a source",
    ),
    ("DenySetIdent", "users may choose it"),
    ("DenySetNetwork", "users may make networks of their own"),
    ("DenySetRealName", "users may choose it"),
    ("DenySetQuitMsg", "carom says why it goes"),
    ("DenySetCTCPReplies", "carom answers no CTCP requests"),
    ("MaxNetworks", "0 is no limit here: see max_networks"),
    ("JoinTries", "a refused channel is shown as parted"),
    ("MaxJoins", "joins are paced like all lines: see flood"),
    ("JoinDelay", "joins are paced like all lines: see flood"),
    (
        "NoTrafficTimeout",
        "silence of a server is found within two minutes",
    ),
    ("Allow", "is for all users here: server.allow"),
    ("Language", "carom speaks English"),
    ("ClientEncoding", "lines are passed on as they are"),
    ("Encoding", "lines are passed on as they are"),
    ("DCCBindHost", "carom opens no DCC connections"),
    ("DefaultModes", "channels keep their modes"),
    ("Modes", "channels keep their modes"),
    ("KeepNick", "see keep_nick"),
    ("FloodProtection", "see flood"),
    ("InConfig", "each channel that stands here is declared"),
    (
        "AutoCycle",
        "carom does not leave a channel to get its rights",
    ),
    ("TrustPKI", "see tls.verify"),
];

/// Modules whose work carom does by itself or in another way; the others are reported as missing.
pub(super) const MODULES: &[(&str, &str)] = &[
    ("admindebug", "`server debug` does it"),
    ("adminlog", "carom's own log goes to standard error"),
    ("autoattach", "see `channel update -reattach-on`"),
    ("awaynick", "see away_nick"),
    (
        "block_motd",
        "the message of the day is shown to whoever asks for it",
    ),
    ("blockuser", "see enabled of the user, or `user update -enabled`"),
    ("buffextras", "see history.only_messages"),
    (
        "certauth",
        "put fingerprints into `certificates` of the user, or say `certificate add`",
    ),
    ("chansaver", "channels are always saved"),
    ("clearbufferonmsg", "see history.reset_on_talk"),
    ("controlpanel", "say `help` to *carom"),
    ("corecaps", "always so"),
    ("cyrusauth", "passwords are always carom's own"),
    (
        "disconkick",
        "clients stay on their channels while the network is down",
    ),
    (
        "fail2ban",
        "failed logins are slowed down by themselves: see limits.login_failures",
    ),
    (
        "identfile",
        "use server.ident, the ident server that carom has itself",
    ),
    ("imapauth", "passwords are always carom's own"),
    ("lastseen", "`user status` says it"),
    ("listsockets", "`client status` says it"),
    ("missingmotd", "always so"),
    ("modperl", "there are no modules"),
    ("modpython", "there are no modules"),
    ("modtcl", "there are no modules"),
    ("modules_online", "there are no modules"),
    ("notify_connect", "the log says who comes and goes"),
    ("playback", "always so: znc.in/playback is offered"),
    (
        "route_replies",
        "always so: a reply goes to the client that asked",
    ),
    ("savebuff", "history is always kept in the database"),
    ("saslplainauth", "always so"),
    ("send_raw", "`network quote` does it"),
    ("self_message", "always so"),
    ("stickychan", "channels are joined on every link; see rejoin_on_kick"),
    (
        "webadmin",
        "there is no web interface; say `help` to *carom",
    ),
];

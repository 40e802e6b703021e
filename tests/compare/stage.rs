//! What all conversations are played on: one server, and one carom with a user for each person of each play.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::play::{Play, suffix};
use super::script::Conversation;
use crate::real::servers::{Kind, Server};
use crate::support::{Client, Daemon};

const PASSWORD: &str = "secret";

/// What the server has beside what it has for all tests.
const MODULES: &[&str] = &[
    "allowinvite",
    "banexception",
    "botmode",
    "callerid",
    "customprefix",
    "globops",
    "inviteexception",
    "knock",
    "monitor",
    "noctcp",
    "nonotice",
    "redirect",
    "samode",
    "sajoin",
    "sakick",
    "sanick",
    "sapart",
    "satopic",
    "chghost",
    "sethost",
    "showwhois",
    "silence",
    "uhnames",
    "uninvite",
    "userip",
    "cycle",
    "muteban",
    "exemptchanops",
];

/// The server and carom.
pub struct Stage {
    server: Server,
    daemon: Daemon,
}

impl Stage {
    /// Starts both; every user is on his way to the server then.
    pub async fn set(conversations: &[Conversation]) -> Self {
        let server = Server::start_with(Kind::Inspircd, server_config).await;
        let mut config = String::from(
            "[server]\nname = \"bnc.test\"\nlisten = [\"irc://[::1]:0\"]\n\n\
             [limits]\nunauthenticated = 0\nclients_per_user = 0\n\n",
        );
        let hash = cheap_hash();
        for (number, conversation) in conversations.iter().enumerate() {
            let plays = Play::all(number).filter(|p| conversation.is_played(*p));
            for play in plays.filter(|p| !p.is_direct()) {
                for who in conversation.people() {
                    let name = format!("{who}{}", suffix(number, play));
                    config += &format!(
                        "[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n\
                         username = \"{who}\"\nrealname = \"Real {who}\"\n\n\
                         {}rejoin_on_kick = false\nflood = {{ burst = 0 }}\n\n",
                        server.network("net").trim_end().to_owned() + "\nkeep_nick = false\n"
                    );
                }
            }
        }
        let daemon = Daemon::start(&config).await;
        Self { server, daemon }
    }

    /// A connection to the server itself.
    pub async fn direct(&self) -> Client {
        Client::connect(self.server.addr()).await
    }

    /// A connection to carom, for one of the clients of a user.
    pub async fn attached(&self, user: &str, n: usize) -> Client {
        let client = Client::connect(self.daemon.addr()).await;
        client
            .send(&format!("PASS {user}/net@client{n}:{PASSWORD}"))
            .await;
        client
    }
}

/// A hash that costs nothing: there are hundreds of logins.
fn cheap_hash() -> String {
    let (salt, mut output) = ([7; 16], [0; 32]);
    let params = Params::new(8, 1, 1, Some(output.len())).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSWORD.as_bytes(), &salt, &mut output)
        .unwrap();
    let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
    format!("$argon2id$v=19$m=8,t=1,p=1${salt}${output}")
}

/// Without brakes, for hundreds of people who come and talk at once.
fn server_config(config: &str) -> String {
    let connect = "<connect allow=\"*\" fakelag=\"no\" threshold=\"1000\" commandrate=\"1000000\" \
                   maxchans=\"50\" ";
    let mut config = config.replace("<connect allow=\"*\" ", connect).replace(
        "localmax=\"100\" globalmax=\"100\"",
        "localmax=\"5000\" globalmax=\"5000\"",
    );
    for module in MODULES {
        config += &format!("<module name=\"{module}\">\n");
    }
    config
        + r#"
<class name="All" commands="*" privs="*" usermodes="*" chanmodes="*" snomasks="*">
<type name="Oper" classes="All">
<oper name="root" password="root" host="*@*" type="Oper">
<customprefix name="halfop" letter="h" prefix="%" rank="20000" ranktoset="30000">
<performance softlimit="5000" somaxconn="1024" netbuffersize="10240">
<security maxtargets="20" hidewhois="" userstats="Pu">
<chghost noident="no">
<options prefixquit="Quit: " syntaxhints="no">
"#
}

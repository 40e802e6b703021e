//! An account that a client made on its network is kept, so that carom logs in to it from then on; what the file declares
//! the user is told to put there. The password is not shown to anybody.

use crate::config::overlay::{Change, Options, Refusal};
use crate::state::NewAccount;

use super::writer::{Gone, Writer};

impl Writer<'_> {
    /// Has the bouncer keep it, and tells the client what came of it.
    pub(super) async fn keep_account(&mut self, account: NewAccount) -> Result<(), Gone> {
        let caller = &self.caller;
        let (Some(user), Some(network)) = (&caller.user, caller.network.clone()) else {
            return Ok(());
        };
        let name = account.name;
        let options = Options::new()
            .set("sasl.mechanism", "plain")
            .set("sasl.account", name.clone())
            .set("sasl.password", account.password.reveal());
        let change = Change::UpdateNetwork {
            user: user.name.clone(),
            name: network.clone(),
            options,
        };
        let done = self.shared.bouncer.change(caller.authority(), change).await;
        let text = match done {
            Ok(_) => {
                format!("{network}: carom logs in as {name} from now on; \"sasl reset\" ends that")
            }
            Err(Refusal::Declared { file, .. }) => format!(
                "{network}: to have carom log in as {name}, add to this network in {}: sasl = {{ mechanism = \"plain\", account = \"{name}\", password = \"...\" }}",
                file.display()
            ),
            Err(refusal) => format!("{network}: carom does not log in as {name}: {refusal}"),
        };
        self.notice(&text);
        self.write_if_full().await
    }
}

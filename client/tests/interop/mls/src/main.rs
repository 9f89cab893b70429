//! A member of MLS groups by the crate `openmls`, which does as it is told, line by line. All bytes
//! are hexadecimal:
//!
//! * `package NAME` → its key package
//! * `create NAME GROUP_ID` → `ok`: a group with this one in it
//! * `join NAME WELCOME GROUP_INFO` → `ok`
//! * `process NAME COMMIT` → `ok`, or `removed`
//! * `commit NAME ADDED REMOVED`, key packages and leaf indices separated by commas, `-` for none →
//!   `COMMIT WELCOME GROUP_INFO`; the welcome is `-` where nobody is added
//! * `look NAME` → `EPOCH EXPORTER AUTHENTICATOR`
//!
//! A line that begins with `!` says why not.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};

use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

type Answer = Result<String, Box<dyn Error>>;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// RFC 9605 §5.2.
const LABEL: &str = "SFrame 1.0 Base Key";

/// Someone, with what it needs to be in one group.
struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    group: Option<MlsGroup>,
}

impl Member {
    fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let provider = OpenMlsRustCrypto::default();
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        signer.store(provider.storage())?;
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: signer.public().into(),
        };
        Ok(Member { provider, signer, credential, group: None })
    }

    fn package(&self) -> Answer {
        let capabilities = Capabilities::builder()
            .ciphersuites(vec![SUITE])
            .credentials(vec![CredentialType::Basic])
            .build();
        let bundle = KeyPackage::builder().leaf_node_capabilities(capabilities).build(
            SUITE,
            &self.provider,
            &self.signer,
            self.credential.clone(),
        )?;
        let message = MlsMessageOut::from(bundle.key_package().clone());
        Ok(to_hex(&message.tls_serialize_detached()?))
    }

    fn create(&mut self, group_id: &str) -> Answer {
        let config = MlsGroupCreateConfig::builder().ciphersuite(SUITE).build();
        let id = GroupId::from_slice(&from_hex(group_id)?);
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &config,
            id,
            self.credential.clone(),
        )?;
        self.group = Some(group);
        Ok("ok".to_owned())
    }

    fn join(&mut self, welcome: &str, group_info: &str) -> Answer {
        let MlsMessageBodyIn::Welcome(welcome) = read(welcome)?.extract() else {
            return Err("no welcome".into());
        };
        let MlsMessageBodyIn::GroupInfo(info) = read(group_info)?.extract() else {
            return Err("no group info".into());
        };
        let tree = info.extensions().ratchet_tree().ok_or("no tree")?.ratchet_tree().clone();
        let config = MlsGroupJoinConfig::default();
        let staged =
            StagedWelcome::new_from_welcome(&self.provider, &config, welcome, Some(tree))?;
        self.group = Some(staged.into_group(&self.provider)?);
        Ok("ok".to_owned())
    }

    fn process(&mut self, commit: &str) -> Answer {
        let message = read(commit)?.try_into_protocol_message()?;
        let group = self.group.as_mut().ok_or("in no group")?;
        let processed = group.process_message(&self.provider, message)?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err("no commit".into());
        };
        group.merge_staged_commit(&self.provider, *staged)?;
        Ok(if group.is_active() { "ok" } else { "removed" }.to_owned())
    }

    fn commit(&mut self, added: &str, removed: &str) -> Answer {
        let mut packages = Vec::new();
        for text in list(added) {
            let MlsMessageBodyIn::KeyPackage(package) = read(text)?.extract() else {
                return Err("no key package".into());
            };
            packages.push(package.validate(self.provider.crypto(), ProtocolVersion::Mls10)?);
        }
        let mut indices = Vec::new();
        for text in list(removed) {
            indices.push(LeafNodeIndex::new(text.parse()?));
        }
        let group = self.group.as_mut().ok_or("in no group")?;
        let bundle = group
            .commit_builder()
            .propose_adds(packages)
            .propose_removals(indices)
            .force_self_update(true)
            .load_psks(self.provider.storage())?
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)?
            .stage_commit(&self.provider)?;
        let (commit, welcome, _) = bundle.into_messages();
        group.merge_pending_commit(&self.provider)?;
        let info = group.export_group_info(self.provider.crypto(), &self.signer, true)?;
        let welcome = match welcome {
            Some(welcome) => to_hex(&welcome.tls_serialize_detached()?),
            None => "-".to_owned(),
        };
        let commit = to_hex(&commit.tls_serialize_detached()?);
        Ok(format!("{commit} {welcome} {}", to_hex(&info.tls_serialize_detached()?)))
    }

    fn look(&self) -> Answer {
        let group = self.group.as_ref().ok_or("in no group")?;
        let exporter = group.export_secret(self.provider.crypto(), LABEL, &[], 32)?;
        let authenticator = group.epoch_authenticator().as_slice();
        let epoch = group.epoch().as_u64();
        Ok(format!("{epoch} {} {}", to_hex(&exporter), to_hex(authenticator)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut members = HashMap::new();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match answer(&mut members, &words) {
            Ok(text) => writeln!(output, "{text}")?,
            Err(error) => writeln!(output, "! {error}")?,
        }
        output.flush()?;
    }
    Ok(())
}

fn answer(members: &mut HashMap<String, Member>, words: &[&str]) -> Answer {
    let [what, name, arguments @ ..] = words else { return Err("say what and who".into()) };
    if !members.contains_key(*name) {
        members.insert((*name).to_owned(), Member::new(name)?);
    }
    let member = members.get_mut(*name).ok_or("nobody")?;
    match (*what, arguments) {
        ("package", []) => member.package(),
        ("create", [group_id]) => member.create(group_id),
        ("join", [welcome, group_info]) => member.join(welcome, group_info),
        ("process", [commit]) => member.process(commit),
        ("commit", [added, removed]) => member.commit(added, removed),
        ("look", []) => member.look(),
        _ => Err("no such request".into()),
    }
}

fn read(text: &str) -> Result<MlsMessageIn, Box<dyn Error>> {
    Ok(MlsMessageIn::tls_deserialize_exact(from_hex(text)?)?)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| *part != "-")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

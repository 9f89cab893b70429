//! Plain transports: media pipelines that speak neither ICE nor DTLS. They send to, and receive at,
//! an address that is named, or that is learnt from what they send ("comedia").
//!
//! Whoever names an address chooses where we send: only who has been granted that may
//! ([`Grants::plain_rtp`](crate::api::Grants)), which no ordinary participant is.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use opencall_dataplane::message::{
    Command, CoreId, PlainLink, PlainRemote, SocketId, TransportId, Tuple,
};
use opencall_wire::srtp::{KeyingMaterial, Profile};
use rand::RngExt as _;
use zeroize::Zeroizing;

use crate::api::{Direction, RequestError, Response, SctpMode, SessionId};
use crate::control::{After, Control};
use crate::limits::{conflict, malformed, not_allowed, unknown};
use crate::rtp_parameters::RtpParameters;

/// Where a pipeline sends, where it is silent until it has been told (RFC 3550 section 11): the
/// port after that of RTP.
const RTCP_OFFSET: u16 = 1;

/// The master key and salt of one direction. Wiped on drop; `Debug` shows the profile.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainKeys {
    /// The profile.
    pub profile: Profile,
    /// The key, and the salt behind it (RFC 4568 section 6.1).
    pub key_and_salt: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for PlainKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("PlainKeys").field(&self.profile).finish()
    }
}

impl PlainKeys {
    /// Bytes of a profile's key and salt.
    pub const fn len_of(profile: Profile) -> usize {
        profile.key_len() + profile.salt_len()
    }

    /// The two apart.
    fn split(&self) -> Result<[Zeroizing<Vec<u8>>; 2], RequestError> {
        let expected = Self::len_of(self.profile);
        if self.key_and_salt.len() != expected {
            return Err(malformed(format!(
                "key and salt of {} have {expected} bytes together, not {}",
                self.profile.name(),
                self.key_and_salt.len()
            )));
        }
        let (key, salt) = self.key_and_salt.split_at(self.profile.key_len());
        Ok([key, salt].map(|part| Zeroizing::new(part.to_vec())))
    }
}

/// What a plain transport is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainOptions {
    /// Where the pipeline is is learnt from the first packet of an SSRC that it has announced. It
    /// can only send then.
    pub comedia: bool,
    /// RTP and RTCP share a port (RFC 5761).
    pub rtcp_mux: bool,
    /// SRTP, by this profile; else plain RTP.
    pub srtp: Option<Profile>,
}

/// A plain transport, as its pipeline must know it.
pub struct PlainTransport {
    /// Transport id.
    pub id: String,
    /// Where RTP and RTCP go.
    pub address: SocketAddr,
    /// The keys of what we send, where there is SRTP.
    pub keys: Option<PlainKeys>,
}

/// Where a pipeline is, and the keys of what it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainConnection {
    /// Where it is; not said of `comedia`.
    pub address: Option<(IpAddr, u16)>,
    /// Its port of RTCP, without `rtcp_mux`; else the one after that of RTP.
    pub rtcp_port: Option<u16>,
    /// Its keys, where there is SRTP.
    pub keys: Option<PlainKeys>,
}

/// What makes a transport a plain one.
pub(crate) struct PlainSide {
    options: PlainOptions,
    /// The keys of what we send.
    keys: Option<PlainKeys>,
    /// Whether it was connected, and to where.
    connected: Option<Option<PlainRemote>>,
}

impl PlainSide {
    /// Whether it is one of `remote`'s addresses that this one has as well.
    fn meets(&self, remote: &PlainRemote) -> bool {
        let mine = self.connected.flatten();
        mine.is_some_and(|mine| tuples(&mine).any(|mine| tuples(remote).any(|it| it == mine)))
    }
}

fn tuples(remote: &PlainRemote) -> impl Iterator<Item = Tuple> {
    std::iter::once(remote.rtp).chain(remote.rtcp)
}

impl Control {
    pub(crate) fn create_plain_transport(
        &mut self,
        session: SessionId,
        options: PlainOptions,
    ) -> Result<(Response, After), RequestError> {
        if !self.peer(session)?.grants.plain_rtp {
            return Err(not_allowed("plain RTP is made by administrators: use the admin API"));
        }
        // What it is for shows when something is produced or consumed on it.
        let (id, core, _) = self.add_transport(session, Direction::Send, SctpMode::Off)?;
        let keys = options.srtp.map(|profile| {
            let mut key_and_salt = Zeroizing::new(vec![0; PlainKeys::len_of(profile)]);
            self.rng.fill(&mut key_and_salt[..]);
            PlainKeys { profile, key_and_salt }
        });
        let address = self.addresses.get(&core).and_then(|core| core.announced.first()).copied();
        let address = address.ok_or_else(|| not_allowed("this data core has no address"))?;
        let side = PlainSide { options, keys: keys.clone(), connected: None };
        if let Some(transport) = self.transports.get_mut(&id) {
            transport.plain = Some(Box::new(side));
        }
        if options.comedia && options.srtp.is_none() {
            // There is nothing more to be said.
            self.link_plain(id, core, None, None);
        }
        let id = self.ids.text(id.0);
        Ok((Response::PlainTransport(PlainTransport { id, address, keys }), After::Nothing))
    }

    pub(crate) fn connect_plain_transport(
        &mut self,
        session: SessionId,
        transport_id: &str,
        to: &PlainConnection,
    ) -> Result<(), RequestError> {
        let id = self.own_transport(session, transport_id)?;
        let transport = self.transports.get(&id);
        let Some(transport) = transport else { return Err(unknown("transport", transport_id)) };
        let core = transport.core;
        let Some(side) = &transport.plain else {
            return Err(not_allowed("this is no plain transport: connect it with dtlsParameters"));
        };
        let PlainOptions { comedia, rtcp_mux, srtp } = side.options;
        if side.connected.is_some() {
            return Err(not_allowed("this transport is connected already: connect it once"));
        }
        let keys = match (srtp, &side.keys, &to.keys) {
            (None, _, None) => None,
            (Some(profile), Some(ours), Some(theirs)) if theirs.profile == profile => {
                Some(keying_material(ours, theirs)?)
            }
            (None, _, Some(_)) => {
                return Err(malformed("this transport has no SRTP: create it with enableSrtp"));
            }
            (Some(profile), ..) => {
                let name = profile.name();
                return Err(malformed(format!("srtpParameters of {name} are missing")));
            }
        };
        let remote = match (comedia, to.address) {
            (true, None) => None,
            (true, Some(_)) => {
                return Err(malformed("the address is learnt with comedia: leave it out"));
            }
            (false, None) => return Err(malformed("ip and port are missing")),
            (false, Some(address)) => Some(self.remote(core, address, to.rtcp_port, rtcp_mux)?),
        };
        self.link_plain(id, core, remote, keys);
        Ok(())
    }

    /// An address to send to, and the socket that it is reached by.
    fn remote(
        &self,
        core: CoreId,
        (ip, port): (IpAddr, u16),
        rtcp_port: Option<u16>,
        rtcp_mux: bool,
    ) -> Result<PlainRemote, RequestError> {
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast || port == 0 {
            return Err(malformed(format!("{ip} port {port} is nobody's address")));
        }
        let announced = self.addresses.get(&core).map_or(&[][..], |core| &core.announced);
        let socket = announced.iter().position(|ours| ours.is_ipv4() == ip.is_ipv4());
        let socket = socket.and_then(|index| u8::try_from(index).ok()).ok_or_else(|| {
            let reason = format!("this server has no media address from which {ip} is reached");
            malformed(reason)
        })?;
        let tuple = |port| (SocketAddr::new(ip, port), SocketId(socket));
        let rtcp = rtcp_port.or_else(|| port.checked_add(RTCP_OFFSET)).filter(|port| *port != 0);
        let remote = match (rtcp_mux, rtcp) {
            (true, _) => PlainRemote { rtp: tuple(port), rtcp: None },
            (false, Some(rtcp)) => PlainRemote { rtp: tuple(port), rtcp: Some(tuple(rtcp)) },
            (false, None) => return Err(malformed("rtcpPort is missing")),
        };
        let is_ours =
            |(to, _): Tuple| self.addresses.values().any(|core| core.announced.contains(&to));
        if tuples(&remote).any(is_ours) {
            return Err(malformed("this is an address of the server itself"));
        }
        let plain = self.transports.values().filter_map(|transport| transport.plain.as_ref());
        if plain.into_iter().any(|side| side.meets(&remote)) {
            let reason = format!("another plain transport has {ip} port {port}: use another port");
            return Err(conflict(reason));
        }
        Ok(remote)
    }

    fn link_plain(
        &mut self,
        transport: TransportId,
        core: CoreId,
        remote: Option<PlainRemote>,
        keys: Option<KeyingMaterial>,
    ) {
        let side = self.transports.get_mut(&transport).and_then(|of| of.plain.as_mut());
        let Some(side) = side else { return };
        side.connected = Some(remote);
        let rtcp_mux = side.options.rtcp_mux;
        let link = Box::new(PlainLink { remote, rtcp_mux, keys });
        self.command(core, Command::ConnectPlain { transport, link });
    }

    /// What is produced on a transport whose address is to be learnt is known by its SSRCs, which
    /// nobody else may be awaited by.
    pub(crate) fn check_plain_producer(
        &self,
        id: TransportId,
        parameters: &RtpParameters,
    ) -> Result<(), RequestError> {
        let Some(transport) = self.transports.get(&id) else { return Ok(()) };
        if !transport.plain.as_ref().is_some_and(|side| side.options.comedia) {
            return Ok(());
        }
        let ssrcs = parameters.encodings.iter().map(|encoding| encoding.ssrc);
        let awaits = |(other, of): (&TransportId, &crate::transport::Transport)| {
            let is_awaited = *other != id && of.core == transport.core && of.ice_state.is_none();
            is_awaited && of.plain.as_ref().is_some_and(|side| side.options.comedia)
        };
        for ssrc in ssrcs {
            let Some(ssrc) = ssrc else {
                return Err(malformed("with comedia each encoding needs its ssrc"));
            };
            let mut others = self.transports.iter().filter(|other| awaits((other.0, other.1)));
            if others.any(|(_, other)| other.ssrcs.contains(&ssrc)) {
                let reason = format!(
                    "SSRC {ssrc} is awaited by another transport with comedia: use another SSRC, \
                     or connect with ip and port"
                );
                return Err(conflict(reason));
            }
        }
        Ok(())
    }

    /// A plain transport sends or receives, whichever is asked of it first. We send to who was
    /// named only: an address that is learnt is whose the sender wants it to be.
    pub(crate) fn check_plain_consumer(&mut self, id: TransportId) -> Result<(), RequestError> {
        let Some(transport) = self.transports.get_mut(&id) else { return Ok(()) };
        let Some(side) = &transport.plain else { return Ok(()) };
        if side.options.comedia {
            let reason = "nothing is sent to an address that is learnt: create a transport without \
                          comedia, and connect it";
            return Err(not_allowed(reason));
        }
        if transport.direction == Direction::Send && transport.ssrcs.is_empty() {
            transport.direction = Direction::Recv;
        }
        Ok(())
    }
}

fn keying_material(ours: &PlainKeys, theirs: &PlainKeys) -> Result<KeyingMaterial, RequestError> {
    let [local_key, local_salt] = ours.split()?;
    let [remote_key, remote_salt] = theirs.split()?;
    let profile = ours.profile;
    Ok(KeyingMaterial { profile, remote_key, remote_salt, local_key, local_salt })
}

//! The header of every packet (virtio 1.2, section 5.10.6): pure decoding and encoding.

/// Bytes of a header.
pub const HEADER: usize = 44;
/// The host's context id.
pub const HOST_CID: u64 = 2;
/// The only socket type here: a stream.
pub const TYPE_STREAM: u16 = 1;
/// Flag of a shutdown: the sender of the packet will receive no more.
pub const NO_RECEIVE: u32 = 1;
/// Flag of a shutdown: the sender of the packet will send no more.
pub const NO_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Open a connection.
    Request,
    /// It is open.
    Response,
    /// It is over, or never was.
    Reset,
    /// One or both directions end.
    Shutdown,
    /// Payload.
    Data,
    /// How much room the sender has.
    CreditUpdate,
    /// Asks for [`Op::CreditUpdate`].
    CreditRequest,
    /// A number that means nothing.
    Unknown(u16),
}

/// A decoded header; nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Context of the sender.
    pub src_cid: u64,
    /// Context of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Payload bytes that follow.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
    /// What it is for.
    pub op: Op,
    /// Depends on `op`.
    pub flags: u32,
    /// Room of the sender's receive buffer in all.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of it, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// From the wire.
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            kind: u16::from_le_bytes(field(bytes, 28)),
            op: Op::decode(u16::from_le_bytes(field(bytes, 30))),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    /// To the wire.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, &self.src_cid.to_le_bytes());
        put(8, &self.dst_cid.to_le_bytes());
        put(16, &self.src_port.to_le_bytes());
        put(20, &self.dst_port.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &self.kind.to_le_bytes());
        put(30, &self.op.encode().to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buf_alloc.to_le_bytes());
        put(40, &self.fwd_cnt.to_le_bytes());
        bytes
    }
}

impl Op {
    fn decode(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }

    fn encode(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
            Self::Unknown(other) => other,
        }
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER], offset: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[offset..offset + N]);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_header_survives_decoding_and_encoding(
            low in any::<[u8; 32]>(),
            high in any::<[u8; 12]>(),
        ) {
            let mut bytes = [0; HEADER];
            bytes[..32].copy_from_slice(&low);
            bytes[32..].copy_from_slice(&high);
            prop_assert_eq!(Header::decode(&bytes).encode(), bytes);
        }
    }

    #[test]
    fn fields_are_little_endian_and_packed() {
        let mut bytes = [0; HEADER];
        (bytes[0], bytes[8], bytes[16], bytes[20], bytes[25], bytes[30]) = (3, 2, 9, 8, 1, 5);
        let header = Header::decode(&bytes);
        assert_eq!((header.src_cid, header.dst_cid, header.src_port, header.dst_port), (3, 2, 9, 8));
        assert_eq!((header.len, header.op), (256, Op::Data));
    }
}

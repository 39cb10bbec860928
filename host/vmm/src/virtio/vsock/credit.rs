//! Flow control of one connection (virtio 1.2, section 5.10.6.3): pure arithmetic on counters that wrap.
//!
//! Each side says how large its receive buffer is (`buf_alloc`) and how much it has taken out of it so far (`fwd_cnt`); the
//! other side may have at most that much under way. The guest's numbers are hostile: they only ever bound what is sent to
//! it, never what is kept for it.

/// Both directions of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    /// Size of the buffer here; constant.
    window: u32,
    /// Bytes that came from the guest.
    received: u32,
    /// Of these, bytes that have left the buffer.
    forwarded: u32,
    /// `forwarded` as the guest knows it.
    announced: u32,
    /// Bytes sent to the guest.
    sent: u32,
    peer_window: u32,
    peer_forwarded: u32,
}

/// The guest sent more than it was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

impl Credit {
    /// With a receive buffer of `window` bytes.
    pub fn new(window: u32) -> Self {
        Self { window, received: 0, forwarded: 0, announced: 0, sent: 0, peer_window: 0, peer_forwarded: 0 }
    }

    /// Size of the receive buffer.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// What the guest said about its buffer, in any packet.
    pub fn peer_said(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.peer_window = buf_alloc;
        self.peer_forwarded = fwd_cnt;
    }

    /// Bytes that may be sent to the guest now.
    pub fn may_send(&self) -> u32 {
        self.peer_window.saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    /// Bytes were sent to the guest.
    pub fn sent(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// Bytes came from the guest.
    pub fn received(&mut self, count: u32) -> Result<(), Overrun> {
        let held = self.received.wrapping_sub(self.forwarded);
        if count > self.window.saturating_sub(held) {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(count);
        Ok(())
    }

    /// Bytes left the buffer.
    pub fn forwarded(&mut self, count: u32) {
        self.forwarded = self.forwarded.wrapping_add(count);
    }

    /// Whether the guest should be told before it believes that the buffer is full. Half a window at a time: a packet for
    /// each write would double the traffic, waiting longer would stall the sender.
    pub fn worth_announcing(&self) -> bool {
        self.forwarded.wrapping_sub(self.announced) >= self.window / 2
    }

    /// `fwd_cnt` for a packet that is being sent.
    pub fn announce(&mut self) -> u32 {
        self.announced = self.forwarded;
        self.forwarded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_guest_may_fill_the_window_and_no_more() {
        let mut credit = Credit::new(100);
        credit.received(60).unwrap();
        assert_eq!(credit.received(41), Err(Overrun));
        credit.received(40).unwrap();
        credit.forwarded(30);
        credit.received(30).unwrap();
        assert_eq!(credit.received(1), Err(Overrun));
    }

    #[test]
    fn counters_wrap() {
        let mut credit = Credit::new(1 << 20);
        for _ in 0..(1 << 13) {
            credit.received(1 << 20).unwrap();
            credit.forwarded(1 << 20);
        }
        assert_eq!(credit.received((1 << 20) + 1), Err(Overrun));
    }

    proptest! {
        #[test]
        fn never_more_under_way_than_the_guest_last_allowed(
            steps in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 1..50),
        ) {
            let mut credit = Credit::new(1);
            for (buf_alloc, fwd_cnt, wanted) in steps {
                credit.peer_said(buf_alloc, fwd_cnt);
                let count = wanted.min(credit.may_send());
                credit.sent(count);
                let under_way = credit.sent.wrapping_sub(fwd_cnt);
                prop_assert!(count == 0 || under_way <= buf_alloc);
            }
        }
    }
}

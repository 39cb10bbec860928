//! A 16550 that only transmits, at COM1: what `earlyprintk=ttyS0` polls. No interrupt, no input, no FIFO to fill.

/// First port.
pub const BASE: u16 = 0x3f8;
/// Ports.
pub const PORTS: u16 = 8;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_IDENTITY: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;
const SCRATCH: u16 = 7;

const DIVISOR_LATCH: u8 = 1 << 7;
const NO_INTERRUPT: u8 = 1;
/// Holding register and shifter are always empty: output leaves at once.
const TRANSMITTER_EMPTY: u8 = 0x60;
/// Carrier, data set ready, clear to send.
const MODEM_READY: u8 = 0xb0;

/// Registers that the guest can read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    interrupt_enable: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: [u8; 2],
}

impl Serial {
    /// Reads register `offset`.
    pub fn read(&self, offset: u16) -> u8 {
        match offset {
            DATA if self.latched() => self.divisor[0],
            INTERRUPT_ENABLE if self.latched() => self.divisor[1],
            INTERRUPT_ENABLE => self.interrupt_enable,
            INTERRUPT_IDENTITY => NO_INTERRUPT,
            LINE_CONTROL => self.line_control,
            MODEM_CONTROL => self.modem_control,
            LINE_STATUS => TRANSMITTER_EMPTY,
            MODEM_STATUS => MODEM_READY,
            SCRATCH => self.scratch,
            _ => 0,
        }
    }

    /// Writes register `offset`; gives back the byte if it goes out on the line.
    pub fn write(&mut self, offset: u16, value: u8) -> Option<u8> {
        match offset {
            DATA if self.latched() => self.divisor[0] = value,
            DATA => return Some(value),
            INTERRUPT_ENABLE if self.latched() => self.divisor[1] = value,
            INTERRUPT_ENABLE => self.interrupt_enable = value & 0xf,
            LINE_CONTROL => self.line_control = value,
            MODEM_CONTROL => self.modem_control = value & 0x1f,
            SCRATCH => self.scratch = value,
            _ => {}
        }
        None
    }

    fn latched(&self) -> bool {
        self.line_control & DIVISOR_LATCH != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divisor_does_not_reach_the_line() {
        let mut serial = Serial::default();
        assert_eq!(serial.write(LINE_CONTROL, 0x83), None);
        assert_eq!(serial.write(DATA, 1), None);
        assert_eq!(serial.read(DATA), 1);
        assert_eq!(serial.write(LINE_CONTROL, 0x03), None);
        assert_eq!(serial.write(DATA, b'x'), Some(b'x'));
    }

    #[test]
    fn the_transmitter_is_always_ready() {
        assert_eq!(Serial::default().read(LINE_STATUS), TRANSMITTER_EMPTY);
    }
}

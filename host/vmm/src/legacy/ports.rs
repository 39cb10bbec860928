//! Dispatch of port I/O, called from every vCPU thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::serial::{self, Serial};
use crate::console_log::ConsoleLog;

const KEYBOARD_COMMAND: u16 = 0x64;
/// Pulses the processor's reset line (8042 command).
const KEYBOARD_PULSE_RESET: u8 = 0xfe;
const RESET_CONTROL: u16 = 0xcf9;
/// Bit of [`RESET_CONTROL`] whose setting resets the machine.
const RESET_CPU: u8 = 1 << 2;
/// What a port without a device reads as.
const FLOATING: u8 = 0xff;

/// Which way the guest asked for the machine to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Keyboard controller: Linux' `reboot=k`, used for reboot and after a panic.
    Keyboard,
    /// Reset control register: Linux' reboot type `pci`, which theca-agent chooses for power-off.
    ResetControl,
}

/// The ports of one VM.
#[derive(Debug)]
pub struct Ports {
    serial: Mutex<Serial>,
    log: Arc<Mutex<ConsoleLog>>,
}

impl Ports {
    /// Ports whose serial output goes to `log`.
    pub fn new(log: Arc<Mutex<ConsoleLog>>) -> Self {
        Self { serial: Mutex::default(), log }
    }

    /// Answers a read of `port`. String instructions read the same port for every byte.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        let value = match port {
            // The keyboard controller has nothing to say and room for a command.
            KEYBOARD_COMMAND => 0,
            RESET_CONTROL => 0,
            port => match serial_register(port) {
                Some(register) => self.serial.lock().unwrap_or_else(PoisonError::into_inner).read(register),
                None => FLOATING,
            },
        };
        data.fill(value);
    }

    /// Takes a write to `port`; tells if it ends the machine.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<Reset> {
        match port {
            KEYBOARD_COMMAND if data.first() == Some(&KEYBOARD_PULSE_RESET) => Some(Reset::Keyboard),
            RESET_CONTROL if data.first().is_some_and(|value| value & RESET_CPU != 0) => {
                Some(Reset::ResetControl)
            }
            port => {
                if let Some(register) = serial_register(port) {
                    self.write_serial(register, data);
                }
                None
            }
        }
    }

    /// What the serial port would need to go on elsewhere.
    pub fn serial_state(&self) -> Serial {
        *self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the serial port into a saved state.
    pub fn restore_serial(&self, state: Serial) {
        *self.serial.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn write_serial(&self, register: u16, data: &[u8]) {
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        for value in data {
            if let Some(byte) = serial.write(register, *value) {
                self.log.lock().unwrap_or_else(PoisonError::into_inner).write(&[byte]);
            }
        }
    }
}

fn serial_register(port: u16) -> Option<u16> {
    port.checked_sub(serial::BASE).filter(|register| *register < serial::PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        let log = ConsoleLog::new(tempfile::tempfile().unwrap(), 4096).unwrap();
        Ports::new(Arc::new(Mutex::new(log)))
    }

    #[test]
    fn the_two_resets_are_told_apart() {
        let ports = ports();
        assert_eq!(ports.write(0x64, &[0xfe]), Some(Reset::Keyboard));
        assert_eq!(ports.write(0x64, &[0xd1]), None);
        assert_eq!(ports.write(0xcf9, &[0x02]), None);
        assert_eq!(ports.write(0xcf9, &[0x0e]), Some(Reset::ResetControl));
    }

    #[test]
    fn a_port_without_a_device_floats() {
        let mut data = [0; 4];
        ports().read(0xcf8, &mut data);
        assert_eq!(data, [0xff; 4]);
    }
}

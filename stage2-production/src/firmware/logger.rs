//! The `log` facade on the console.

use core::fmt::Write;

use drivers::uart::Uart;
use hal::Console;
use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

struct Logger(Mutex<Option<Uart>>);

static LOGGER: Logger = Logger(Mutex::new(None));

/// Sends log lines to `console` from now on.
pub(super) fn start(console: Uart) {
    *LOGGER.0.lock() = Some(console);
    // Fails only if a logger is set already, and then lines go there.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

struct Lines<'a>(&'a mut Uart);

impl Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("stage2")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(console) = self.0.lock().as_mut()
        {
            // The console cannot fail.
            let _ = write!(Lines(console), "stage2: {}\r\n", record.args());
        }
    }

    fn flush(&self) {}
}

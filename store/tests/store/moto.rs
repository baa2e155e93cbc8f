//! moto, a server that speaks as AWS does (here S3, elsewhere Auto Scaling), as a process on a free port; it ends with the test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub struct Moto {
    pub address: SocketAddr,
    /// Ends when its stdin does, whatever becomes of us.
    shell: Child,
}

impl Moto {
    /// None, with the reason on stderr, where moto is not installed.
    pub fn start() -> Option<Self> {
        let program = std::env::var("MUSTER_MOTO").unwrap_or_else(|_| "moto_server".to_owned());
        let script = r#""$0" -H 127.0.0.1 -p 0 2>&1 & server=$!; read -r _; kill "$server""#;
        let mut shell = Command::new("sh")
            .args(["-c", script, &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("Running on http://")?.1.trim().parse().ok());
        let Some(address) = address else {
            // `read` waits on: the shell ends when its stdin is closed.
            drop(shell.stdin.take());
            let _ = shell.wait();
            let said = "skipped: no moto: `make test` installs it, or set MUSTER_MOTO to its moto_server";
            eprintln!("{said}");
            assert!(std::env::var_os("CI").is_none() && std::env::var_os("MUSTER_MOTO").is_none(), "{said}");
            return None;
        };
        // Its log is not read: a pipe that nobody empties would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { address, shell })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

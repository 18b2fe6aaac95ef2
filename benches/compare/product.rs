//! The product: a box and a hub with its embedded broker, as the end-to-end tests start them.

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};

use crate::dossier::AGENCY;
use crate::link::Road;
use crate::rig::{Broker, DATASET, Rig, TOKEN};
use crate::system::{Door, GROUP, OFFICE, Part, System, Tally};

pub struct Product {
    rig: Rig,
    road: Road,
    door: Door,
    database: Connection,
}

impl Product {
    pub fn start() -> Result<Product> {
        let mut rig = Rig::start(Broker::Embedded);
        let road = Road::to(rig.port)?;
        rig.add_box(OFFICE, AGENCY, road.port());
        rig.start_box(OFFICE);
        let port = rig.boxes[OFFICE].http_port;
        let door = Door::new(
            format!("http://127.0.0.1:{port}/v1/records/{DATASET}"),
            format!("Bearer {TOKEN}"),
        );
        let path = rig.hub_folder().join("trucd.db");
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .context("the hub's database")?;
        Ok(Product {
            rig,
            road,
            door,
            database,
        })
    }
}

impl System for Product {
    fn road(&mut self) -> &mut Road {
        &mut self.road
    }

    fn hand_in_singly(&mut self, records: &[String]) -> Result<()> {
        self.door.hand_in(records, 1)
    }

    fn hand_in(&mut self, records: &[String]) -> Result<()> {
        self.door.hand_in(records, GROUP)
    }

    fn kill(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Office => {
                self.rig.kill_box(OFFICE);
                self.rig.launch_box(OFFICE);
            }
            Part::Hub => {
                self.rig.kill_hub();
                self.rig.start_hub();
            }
            Part::Broker => bail!("the product's broker is in its hub"),
        }
        Ok(())
    }

    fn office(&self) -> u32 {
        self.rig.pid(OFFICE)
    }

    fn centre(&self) -> Vec<u32> {
        vec![self.rig.hub_pid()]
    }

    fn held(&mut self) -> Result<u64> {
        let sql = "SELECT coalesce(sum(entries - doubles), 0) FROM log";
        let mut statement = self.database.prepare_cached(sql)?;
        let held: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(held)?)
    }

    fn tally(&mut self) -> Result<Tally> {
        let found = self.rig.at_hub(OFFICE);
        Ok(Tally {
            distinct: found.len() as u64,
            rows: found.values().map(|&times| u64::from(times)).sum(),
        })
    }
}

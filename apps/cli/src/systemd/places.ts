/** Where the files of the units lie. */
import { join } from 'node:path';

/** In the order of their start. */
export const unitNames = ['perch-host.service', 'perchd.service'] as const;
export type UnitName = (typeof unitNames)[number];

export interface Places {
  /** Folder of the units of whoever runs the machine. */
  units: string;
  /** Settings of both daemons, 0600. */
  settings: string;
  /** Settings that only perchd may know, 0600; there is none where there are none. */
  secrets: string;
}

export function placesBelow(root: string): Places {
  return {
    units: join(root, 'etc/systemd/system'),
    settings: join(root, 'etc/perch/settings.env'),
    secrets: join(root, 'etc/perch/secrets.env'),
  };
}

export const places = placesBelow('/');

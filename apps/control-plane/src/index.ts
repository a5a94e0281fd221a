export { type Config, ConfigError, firstKeyFile, readConfig } from './config/index.ts';
export { type ControlPlane, startControlPlane } from './control-plane.ts';

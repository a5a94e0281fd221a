/** Networks of the guests: slots, their isolation, and the pool they come from. */
export { createNetworkLayer, type NetworkLayerOptions } from './layer.ts';
export type { NetworkLayer, Slot } from './network-layer.ts';
export { findUplinkDns } from './resolver.ts';

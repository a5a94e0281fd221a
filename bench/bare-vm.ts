/** One bare guest, as its monitor sees it. */
export interface BareVm {
  dir: string;
  tap: string;
}

export interface StartedVm extends BareVm {
  pid: number;
}

/** The states of sandboxes as files: written by a pause, gone on from by a resume. */
export { beforeFirstLife, type SavedState, SavedStates, type StateStore } from './saved-states.ts';

/** The parts of undici that the client needs: by their names also where all is compiled into one. */
export { Agent, fetch } from 'undici';

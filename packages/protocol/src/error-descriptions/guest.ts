/** Errors of what is done inside of a sandbox: commands and files. */
import type { ErrorDescriptions } from './description.ts';

const asBefore = 'The file system of the sandbox is as before.';

export const guestErrors = {
  guest_unavailable: {
    when: 'The agent in the guest cannot be reached, does not answer in time, or takes no more of an upload.',
    after:
      'The sandbox is as before. The outcome of a command or of a change of files is unknown. Nothing of an upload has its final name.',
  },
  guest_protocol: {
    when: 'The answer of the guest is none that its agent gives, such as a malformed message or more bytes than it may have. A guest is root over its own agent, so this can be intent.',
    after: 'The connection was closed. The sandbox runs on; the outcome of what was asked is unknown.',
  },
  agent_too_old: {
    when: 'The sandbox goes on from a snapshot of an older Perch, whose guest agent does not know what was asked for, such as the archive of a directory.',
    after: asBefore,
  },
  sandbox_busy: {
    when: 'A command or a stream was asked for where 400 are followed already; or 48 transfers, moves and removals were under way, and none ended within 30 s. A sandbox has its own numbers.',
    after: 'Nothing was started and nothing was changed. What is under way goes on.',
  },
  exec_timeout: {
    when: 'A command ran longer than `timeout_sec`, or the sandbox did not answer within it; the message tells which.',
    after:
      'The command is killed, and with it all processes of its control group. Of a sandbox that did not answer nobody knows whether the command ran or still runs. The output so far is in `details`, cut at 8 MiB a stream; a stream has sent it before and has none there.',
  },
  command_not_found: {
    when: 'No command with that pid runs in the sandbox, and none is known that has ended. An ended one is known for an hour, or for a minute when a client followed it to the end; of more than 256 the oldest go first.',
    after: 'Nothing was done.',
  },
  stdin_not_open: {
    when: 'A `stdin` message came over `exec/stream` for a command that was started without `"stdin": true`, or after `stdin_close`.',
    after: 'The stream is closed with code 1008, and its command ends unless it was detached or attached to.',
  },
  invalid_user: {
    when: 'The user of a command or of a file call does not exist in the sandbox, or the caller may not run as it.',
    after: 'The command did not start. No file was touched.',
  },
  invalid_cwd: {
    when: 'The working directory of a command does not exist, or its user may not enter it.',
    after: 'The command did not start.',
  },
  file_not_found: { when: 'There is nothing at the path.', after: asBefore },
  file_exists: { when: 'Something is at the path already.', after: asBefore },
  not_a_file: {
    when: 'The path is a directory, a device, a FIFO or a socket, where a regular file is needed.',
    after: asBefore,
  },
  not_a_directory: {
    when: 'The path, or a part of it, is no directory, where one is needed.',
    after: asBefore,
  },
  permission_denied: {
    when: 'The user of the call may not touch the path.',
    after: `${asBefore} Of a tree that was to be removed, what can be removed may be gone: list it.`,
  },
  disk_full: {
    when: 'The disk of the sandbox has no room for what is written.',
    after: 'Nothing of the upload was kept, and a file that was to be overwritten is as before.',
  },
  path_busy: {
    when: 'Something uses the path: a file system is mounted there, or below a directory that is removed or moved to another file system; or a program of the sandbox runs from the file.',
    after: asBefore,
  },
  directory_not_empty: {
    when: 'A directory was to be replaced by a move, and something is in it.',
    after: asBefore,
  },
  read_only_file_system: {
    when: 'The path is on a file system of the sandbox that is mounted for reading only.',
    after: asBefore,
  },
  unsupported_by_file_system: {
    when: 'The file system that the path is on has no such operation, or the file is too large for it.',
    after: asBefore,
  },
  file_io_failed: {
    when: 'A device or a file system of the sandbox gave an error, such as a file of /proc or /sys that cannot be read.',
    after:
      'A file that was to be written is as before. A tree that was to be removed or moved may be gone in part: list it.',
  },
  sandbox_out_of_resources: {
    when: 'The sandbox has no memory, no descriptors or no locks left for the call.',
    after:
      'A file that was to be written is as before. A tree that was to be removed may be gone in part: list it.',
  },
  events_lost: {
    when: 'Changes in a directory came faster than the client of `files/watch` took them, and the sandbox has lost some; or a directory came with more files than can be told at once.',
    after: 'The watch has ended, after the changes that were known. The files are as they are.',
  },
  port_closed: {
    when: 'A connection was asked for to a port of the sandbox on which no program listens, or one on the loopback of the sandbox alone.',
    after: 'Nothing has been sent.',
  },
  transfer_interrupted: {
    when: 'An upload or a download broke off: its source, the client or the guest went away, or a file ended before its length. The SDK throws it for a download that ends early.',
    after:
      'A file that was to be written is as before. Of a download the client has a part, which it must not take for the whole.',
  },
} satisfies Partial<ErrorDescriptions>;

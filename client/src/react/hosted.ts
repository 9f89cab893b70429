import { createContext, useContext } from 'react';
import type { Meeting } from '../sdk/index';

/** The meeting, for those who host it; for all others nothing. */
export const HostedMeetingContext = createContext<Meeting | undefined>(undefined);

export function useHostedMeeting(): Meeting | undefined {
  return useContext(HostedMeetingContext);
}

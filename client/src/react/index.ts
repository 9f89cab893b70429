/** @packageDocumentation OpenCall meetings in React. Import `@opencall/client/react` and `meeting.css`. */

export { MediasoupMeeting, type MediasoupMeetingProps } from './MediasoupMeeting';
export { MeetingView, type MeetingViewProps } from './MeetingView';
export {
  type ConsumerQuality,
  type MediasoupConnection,
  MediasoupContext,
  type UseMediasoupOptions,
  type UseMediasoupResult,
  useMediasoup,
} from './useMediasoup';
export { type MeetingHandle, useMeeting, useMeetingSnapshot } from './useMeeting';

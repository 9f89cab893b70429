/** @packageDocumentation OpenCall meetings in React. Import `@opencall/client/react` and `meeting.css`. */
export { MeetingView, type MeetingViewProps } from './MeetingView';
export { type MeetingHandle, useMeeting, useMeetingSnapshot } from './useMeeting';

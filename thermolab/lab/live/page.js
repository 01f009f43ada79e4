(image => {
  const start = () => {
    const box = image.closest('.tl-panel');
    if (!box || !box.isConnected) return setTimeout(start, 100);

    // A slider has no name of its own, and counts its places; people want to hear name and value.
    const name = () => box.querySelectorAll('.tl-knob, .tl-speed').forEach(knob => {
      const slider = knob.matches('.widget-slider') ? knob : knob.querySelector('.widget-slider');
      const handle = slider?.querySelector('.noUi-handle');
      const label = [...knob.querySelectorAll('.widget-label')].find(one => one.textContent);
      const title = slider?.querySelector('.widget-label')?.title;  // "null" where a widget has no tooltip
      const value = title && title !== 'null' ? title : slider?.querySelector('.widget-readout')?.textContent;
      const say = (what, text) => text && handle?.getAttribute(what) !== text && handle?.setAttribute(what, text);
      say('aria-label', label?.textContent);
      say('aria-valuetext', value);
    });
    // A button that has nothing to do says so, but stays where it is for the keyboard.
    const dim = () => box.querySelectorAll('.tl-orders button').forEach(
      button => button.setAttribute('aria-disabled', button.classList.contains('tl-off')));
    const attributes = {attributes: true, attributeFilter: ['title', 'aria-valuetext', 'class']};
    const watch = {subtree: true, childList: true, characterData: true, ...attributes};
    const changes = new MutationObserver(() => { name(); dim(); });
    box.querySelectorAll('.tl-knobs, .tl-orders').forEach(row => changes.observe(row, watch));
    name();
    dim();
    box.querySelector('.tl-guess input')?.setAttribute('aria-label', 'your prediction, a number');

    // Whether somebody sees the page, and in JupyterLab the notebook; told to the kernel when it changes.
    const notebook = box.closest('.jp-NotebookPanel');
    let shown = true, told, ready = false;
    const look = () => {
      const seen = shown && !document.hidden, field = box.querySelector('.tl-look input');
      if (!ready || !field || seen === told) return;
      told = seen;
      field.value = `${seen ? 'seen' : 'hidden'} ${Date.now()}`;
      field.dispatchEvent(new Event('change', {bubbles: true}));
    };
    document.addEventListener('visibilitychange', look);
    if (notebook) new IntersectionObserver(found => { shown = found.at(-1).isIntersecting; look(); }).observe(notebook);
    setTimeout(() => { ready = true; look(); }, 2000);  // a kernel that is spoken to at once loses count, see echo.py
  };
  start();
})(this)

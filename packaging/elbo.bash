# bash completion for elbo
_elbo() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "$(elbo --help 2>/dev/null | awk '/^  [a-z]+ /{print $1}') --help --version" -- "$word"))
    return
  fi
  case $previous in
    --layout) COMPREPLY=($(compgen -W "nhwc nchw" -- "$word")); return ;;
    --split) COMPREPLY=($(compgen -W "train valid test" -- "$word")); return ;;
    --likelihood) COMPREPLY=($(compgen -W "one one,k one,k,ode" -- "$word")); return ;;
    --checkpoint) COMPREPLY=($(compgen -W "newest best" -- "$word")); return ;;
    --isa) COMPREPLY=($(compgen -W "v2 v3 v4" -- "$word")); return ;;
    --op) COMPREPLY=($(compgen -W "$(elbo bench --op . 2>&1 | sed 's/.*there are //; s/,//g')" -- "$word")); return ;;
    --seed | --seeds | --budget | --flops | --limit | --curve | --kernel | --seconds | --threads | --steps | -n | --number) return ;;
  esac
  case $word in
    -*) COMPREPLY=($(compgen -W "$(elbo "$command" --help 2>/dev/null | grep -oE '(^|[ ,])--[a-z0-9-]+' | tr -d ' ,')" -- "$word")) ;;
    *)
      COMPREPLY=($(compgen -f -- "$word"))
      case $command in
        train | bench | compare) COMPREPLY+=($(compgen -W "$(elbo train --list 2>/dev/null | awk '{print $1}')" -- "$word")) ;;
      esac
      ;;
  esac
}
complete -o filenames -F _elbo elbo
